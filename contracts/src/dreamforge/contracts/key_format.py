"""How API keys are written: for those who make their parts, without the aggregate (`access`)."""

KEY_PREFIX = "forge_"
SECRET_BYTES = 32
KEY_ID_CHARS = 10
