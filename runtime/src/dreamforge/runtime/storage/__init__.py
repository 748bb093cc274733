"""Files and objects outside the log: the object store and model folders."""
