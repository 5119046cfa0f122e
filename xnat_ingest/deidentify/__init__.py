"""What leaves of an object: headers rewritten by a profile, and searched for the patient before they go."""
