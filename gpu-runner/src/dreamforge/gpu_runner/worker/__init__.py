"""The child process: reads tasks from a socket, drives a renderer, answers with frames."""
