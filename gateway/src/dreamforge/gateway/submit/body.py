"""The body of `POST /v1/jobs`: one strict model, made of the declared parameters and the installation's limits."""

from typing import Annotated, Any, cast

from pydantic import BaseModel, ConfigDict, Field, create_model

from dreamforge.contracts.request.limits import Limits
from dreamforge.contracts.request.render_request import Deadlines
from dreamforge.contracts.request.schema import input_fields
from dreamforge.contracts.request.values import Whole


class Submission(BaseModel):
    """What to render. What is left out (or null) is decided by the preset; a seed is chosen for you."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())

    priority: Annotated[int, Field(ge=0, le=9, title="Priority", description="9 is the most urgent"), Whole] = 5
    deadlines: Deadlines | None = None


def submission_for(limits: Limits) -> type[Submission]:
    """The model with the request's parameters and these limits in it.

    So validation and the OpenAPI document cannot disagree.
    """
    inputs = create_model("RequestInput", __config__=Submission.model_config, **input_fields(limits))
    # The parameters come first: this is the order of "known fields" in a refusal.
    bases: Any = (Submission, inputs)  # Any: one base is made at run time
    return cast(type[Submission], create_model("Submission", __base__=bases, __doc__=Submission.__doc__))
