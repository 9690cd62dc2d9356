"""The mistakes a user can make, each refining a built-in; the message says what to do."""

from __future__ import annotations


class InvalidImageError(ValueError):
    """The image cannot be read, or its size is outside the limits."""


class ForbiddenImageError(PermissionError):
    """The image lies outside the configured Label Studio and the allowed folder."""


class InvalidDatasetError(ValueError):
    """A dataset on disk is damaged, or does not fit what is to be put into it."""


class InvalidTaskError(ValueError):
    """A task, annotation or region from Label Studio is malformed."""


class InvalidLabelConfigError(ValueError):
    """The labeling config lacks a control that the guide needs."""


class LabelStudioError(ConnectionError):
    """Label Studio does not answer, or refuses."""


class LateAnswerError(LabelStudioError):
    """Label Studio took the request, and did not answer in time."""


class QueueFullError(RuntimeError):
    """So much waits already that more cannot be taken."""


class QueueError(ConnectionError):
    """Redis, which hands work to the workers, does not answer."""


class RegistryError(ValueError):
    """A shared model does not exist, is damaged, or does not fit."""


class RecipeError(ValueError):
    """A CD recipe holds mistakes; a line for each."""
