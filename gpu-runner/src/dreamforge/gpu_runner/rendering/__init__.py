"""The torch side: pipelines, devices, and the features of a render. Import it only in the child process."""
