"""The identity of a model folder: what was loaded, whatever its name says. See `runtime.model_folder`."""

from dreamforge.runtime.model_folder import DESCRIPTOR_NAME, folder_bytes, model_digest

__all__ = ["DESCRIPTOR_NAME", "folder_bytes", "model_digest"]
