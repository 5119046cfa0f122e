from xnat_ingest.cli import script

if __name__ == "__main__":
    script()
