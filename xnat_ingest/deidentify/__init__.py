"""De-identification: headers are rewritten by a profile, and searched for the patient before they are sent."""
