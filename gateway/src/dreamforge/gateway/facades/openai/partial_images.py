"""Which of a job's previews a client of OpenAI's API gets: so many, spread over the steps."""

from dataclasses import dataclass

from dreamforge.gateway.events.watch import JobEventData


@dataclass(slots=True)
class PartialImages:
    """`wanted` previews of each image, the k-th once k / (wanted + 1) of its steps are done."""

    wanted: int
    _image: int = -1
    _given: int = 0

    def take(self, step: JobEventData) -> dict[str, object] | None:
        """The fields of a partial image, if one is due with this step and the step has a preview."""
        if step["image_index"] != self._image:
            self._image, self._given = step["image_index"], 0
        due = (self._given + 1) * step["steps"] <= step["step"] * (self.wanted + 1)
        if self._given >= self.wanted or not due or not step.get("preview"):
            return None
        self._given += 1
        _, _, data = str(step["preview"]).partition(",")
        return {"b64_json": data, "partial_image_index": self._given - 1}
