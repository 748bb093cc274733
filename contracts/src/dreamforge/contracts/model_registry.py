"""The model aggregate: which models can be requested. Pure.

A runner offers what it finds on its disk (`by_hand=False`); that does not restore what an operator removed, and does
not replace the files that an operator registered under the same id.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from dreamforge.contracts.errors import Conflict
from dreamforge.contracts.installation_events import ModelEvent, ModelRegistered, ModelRemoved, ModelVerified
from dreamforge.contracts.models.descriptor import ModelDescriptor
from dreamforge.contracts.request.errors import UnknownModel


@dataclass(frozen=True, slots=True)
class ModelState:
    """One model, folded. A removed model keeps its last descriptor, to be known when it is offered again."""

    descriptor: ModelDescriptor | None = None
    removed: bool = False
    verified_digest: str = ""
    verified_at: datetime | None = None
    #: Whether a person registered these files.
    by_hand: bool = False

    @property
    def available(self) -> bool:
        """Whether it can be asked for."""
        return self.descriptor is not None and not self.removed

    @property
    def verified(self) -> bool:
        """Whether the files of exactly this descriptor were read and found right."""
        return self.descriptor is not None and self.descriptor.digest == self.verified_digest


@dataclass(frozen=True, slots=True)
class RegisterModel:
    """Register a model with this descriptor."""

    now: datetime
    descriptor: ModelDescriptor
    by_hand: bool = False


@dataclass(frozen=True, slots=True)
class VerifyModel:
    """Every file of a model was read, and this is what was found."""

    now: datetime
    digest: str
    size_bytes: int
    verified_by: str


@dataclass(frozen=True, slots=True)
class RemoveModel:
    """Remove a model from the registry."""

    now: datetime
    removed_by: str = "operator"


ModelCommand = RegisterModel | VerifyModel | RemoveModel


def decide_model(state: ModelState, command: ModelCommand) -> tuple[ModelEvent, ...]:
    """What follows from a command; () when nothing does.

    Errors: UnknownModel (nothing is registered), Conflict (other files than the registered ones were verified).
    """
    match command:
        case RegisterModel():
            return _register(state, command)
        case VerifyModel():
            descriptor = _known(state)
            if command.digest != descriptor.digest:
                raise Conflict(f"{descriptor.model_id} is registered with digest {descriptor.digest}")
            if state.verified:
                return ()
            return (
                ModelVerified(
                    at=command.now,
                    digest=command.digest,
                    size_bytes=command.size_bytes,
                    verified_by=command.verified_by,
                ),
            )
        case RemoveModel():
            _known(state)
            return (ModelRemoved(at=command.now, removed_by=command.removed_by),)


def _known(state: ModelState) -> ModelDescriptor:
    if state.descriptor is None or state.removed:
        raise UnknownModel(model_id=state.descriptor.model_id if state.descriptor else "", known=())
    return state.descriptor


def _register(state: ModelState, command: RegisterModel) -> tuple[ModelEvent, ...]:
    known = state.descriptor
    if state.removed and not command.by_hand and known is not None and known.digest == command.descriptor.digest:
        return ()  # described otherwise, it is still what was removed
    if state.by_hand and not command.by_hand and not state.removed and _has_other_files(state, command.descriptor):
        return ()  # that would take the id of a model that a person chose
    if known == command.descriptor and not state.removed and state.by_hand >= command.by_hand:
        return ()
    return (ModelRegistered(at=command.now, descriptor=command.descriptor, by_hand=command.by_hand),)


def _has_other_files(state: ModelState, descriptor: ModelDescriptor) -> bool:
    return state.descriptor is not None and state.descriptor.digest != descriptor.digest


def evolve_model(state: ModelState, event: ModelEvent) -> ModelState:
    """The state after one more fact. Errors: TypeError for an event that is not of this aggregate."""
    match event:
        case ModelRegistered():
            # A runner that describes the same files otherwise does not make them its own.
            by_hand = event.by_hand or (state.by_hand and not _has_other_files(state, event.descriptor))
            return replace(state, descriptor=event.descriptor, removed=False, by_hand=by_hand)
        case ModelVerified():
            return replace(state, verified_digest=event.digest, verified_at=event.at)
        case ModelRemoved():
            return replace(state, removed=True)
    raise TypeError(type(event).__name__)
