"""Registered models, and the presets that fill in what a request leaves out."""

from dreamforge.client.reading import read_as
from dreamforge.client.session import GatewaySession
from dreamforge.contracts.replies import ModelList, ModelReply, PresetList, PresetReply


class AsyncModels:
    """What can be rendered with."""

    def __init__(self, session: GatewaySession) -> None:
        self._session = session

    async def list(self) -> tuple[ModelReply, ...]:
        """Every model, in the order in which they were registered, with the JSON Schema of its parameters."""
        return read_as(ModelList, await self._session.read("/v1/models"), "GET /v1/models").models

    async def presets(self) -> tuple[PresetReply, ...]:
        """Every preset of every model, and the runners that could render with it."""
        return read_as(PresetList, await self._session.read("/v1/presets"), "GET /v1/presets").presets
