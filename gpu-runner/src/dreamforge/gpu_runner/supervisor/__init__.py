"""The bus side of a runner (asyncio): assignments, attempts, heartbeats, the child process. Never imports torch."""
