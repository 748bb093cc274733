"""What a process that reads files of strangers gives up before it reads the first of them, by means of the kernel."""
