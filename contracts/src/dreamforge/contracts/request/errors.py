"""What can be wrong with a request: each error names the field, its value, and what would be right."""

from dataclasses import dataclass

from dreamforge.contracts.errors import InvalidInput


@dataclass(eq=False)
class UnknownModel(InvalidInput):
    """No registered model has this id."""

    code = "unknown_model"
    model_id: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        known = ", ".join(self.known) or "none yet: start a runner that has one"
        return f"unknown model {self.model_id!r}; known models: {known}"


@dataclass(eq=False)
class UnknownPreset(InvalidInput):
    """The model has no preset of this name."""

    code = "unknown_preset"
    preset: str
    model_id: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        return f"model {self.model_id!r} has no preset {self.preset!r}; it has: {', '.join(self.known)}"


@dataclass(eq=False)
class OutOfBounds(InvalidInput):
    """A value is outside its configured bound."""

    code = "out_of_bounds"
    field: str
    value: float
    minimum: float
    maximum: float

    def __str__(self) -> str:
        both = f"lie between {self.minimum:g} and {self.maximum:g}"
        right = both if self.minimum < self.maximum else f"be {self.minimum:g}"
        return f"{self.field} is {self.value:g}, but must {right}"


@dataclass(eq=False)
class NotAPipeline(InvalidInput):
    """A LoRA or ControlNet was named as the model of a request."""

    code = "not_a_pipeline"
    model_id: str
    kind: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        known = ", ".join(self.known) or "none yet"
        return f"{self.model_id!r} is a {self.kind}, which is applied to a model; models that render: {known}"


@dataclass(eq=False)
class NotAllowed(InvalidInput):
    """A field has a value that this model does not take; `allowed` is empty where it does not take the field at all."""

    code = "not_allowed_by_model"
    field: str
    value: str
    model_id: str
    allowed: tuple[str, ...] = ()

    def __str__(self) -> str:
        may = f"it takes: {', '.join(self.allowed)}" if self.allowed else "it takes none"
        return f"{self.field} is {self.value!r}, which model {self.model_id!r} does not take; {may}"


@dataclass(eq=False)
class FieldNeeded(InvalidInput):
    """One field makes sense only with another."""

    code = "field_needed"
    field: str
    because: str

    def __str__(self) -> str:
        return f"{self.field} is needed: {self.because}"


@dataclass(eq=False)
class NamedTwice(InvalidInput):
    """One request names the same asset twice."""

    code = "named_twice"
    field: str
    value: str

    def __str__(self) -> str:
        return f"{self.field} is {self.value!r}, which is named before: name it once, with the sum of the weights"


@dataclass(eq=False)
class UnknownAsset(InvalidInput):
    """No registered LoRA, ControlNet, VAE, embedding or IP-Adapter has this id."""

    code = "unknown_asset"
    field: str
    value: str
    kind: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        known = ", ".join(self.known) or "none"
        return f"{self.field} is {self.value!r}, which is no registered {self.kind}; those that fit: {known}"


@dataclass(eq=False)
class UnknownLora(InvalidInput):
    """A prompt names a LoRA that is not registered; `alike` are those with similar names."""

    code = "unknown_lora"
    field: str
    value: str
    alike: tuple[str, ...]
    registered: int

    def __str__(self) -> str:
        near = f"similar names: {', '.join(self.alike)}" if self.alike else f"{self.registered} are registered"
        return (
            f"{self.field} has <lora:{self.value}>, and no registered LoRA has this name; {near}. "
            f"Text that is meant literally is written \\<lora:{self.value}>"
        )


@dataclass(eq=False)
class LoraTagUnsupported(InvalidInput):
    """A prompt has a LoRA tag in a form that is not taken."""

    code = "lora_tag_unsupported"
    field: str
    value: str

    def __str__(self) -> str:
        return (
            f"{self.field} has {self.value}, but a LoRA is written <lora:NAME>, <lora:NAME:WEIGHT> or "
            "<lora:NAME:TEXT_WEIGHT:WEIGHT>"
        )


@dataclass(eq=False)
class BatchTooLarge(InvalidInput):
    """A batch would have more jobs than one may have; `jobs` is None where they were not counted to the end."""

    code = "batch_too_large"
    jobs: int | None
    maximum: int

    def __str__(self) -> str:
        found = f"{self.jobs} jobs" if self.jobs is not None else f"more than {self.maximum} jobs"
        return (
            f"the batch would have {found}, and may have {self.maximum} (FORGE_LIMIT_BATCH_JOBS): give the grid fewer "
            "values, or set `samples`"
        )


@dataclass(eq=False)
class TemplateRefused(InvalidInput):
    """A prompt template cannot be expanded."""

    code = "template_refused"
    field: str
    reason: str

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}"


@dataclass(eq=False)
class AssetMismatch(InvalidInput):
    """A LoRA, ControlNet, VAE or the like was made for models of another family."""

    code = "asset_mismatch"
    field: str
    value: str
    asset_family: str
    model_id: str
    model_family: str

    def __str__(self) -> str:
        return (
            f"{self.field} is {self.value!r}, made for models of family {self.asset_family!r},"
            f" but model {self.model_id!r} is of family {self.model_family!r}"
        )


@dataclass(eq=False)
class QuantisationUnavailable(InvalidInput):
    """No live runner that has the model computes in the way that a request names."""

    code = "quantisation_unavailable"
    model_id: str
    quantisation: str
    #: One of them, and why it cannot.
    runner_id: str
    because: str

    def __str__(self) -> str:
        return (
            f"no runner that has model {self.model_id!r} can compute in {self.quantisation}; of {self.runner_id!r}: "
            f"{self.because}"
        )


@dataclass(eq=False)
class ModelTooLarge(InvalidInput):
    """No live runner that has the model could ever hold this render. Sizes in bytes."""

    code = "model_too_large"
    model_id: str
    width_px: int
    height_px: int
    needed_bytes: int
    largest_bytes: int
    runner_id: str
    #: The tier that needs least.
    tier: str

    def __str__(self) -> str:
        return (
            f"model {self.model_id!r} at {self.width_px}x{self.height_px} px needs {self.needed_bytes} bytes at the"
            f" least (in tier {self.tier!r}), and the largest runner that has it, {self.runner_id!r}, can offer"
            f" {self.largest_bytes}"
        )
