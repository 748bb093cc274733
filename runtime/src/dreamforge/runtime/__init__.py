"""What every service of Dream Forge uses: the log, the object store, the service shell, embedded servers."""
