"""Ask a person, in the Prefect UI, whether a generation may be promoted."""

from __future__ import annotations

from prefect import get_run_logger
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from pydantic import Field

from tasks.errors import RejectedError

ASKED_EVERY_SECONDS = 2


class Approval(RunInput):
    """The form of a paused promotion."""

    approve: bool = Field(default=False, description="Promote this generation, so that it answers all questions.")
    comment: str = Field(default="", description="The reason for your decision.")


def ask_for_approval(collection: str, report: str, hours: float) -> str:
    """Pause this flow run until somebody approves, with the report above the form. Return the comment.

    Raises ``RejectedError`` on a rejection, or if nobody answers within ``hours``.
    """
    get_run_logger().info("waiting up to %g hours for an approval of %s in the Prefect UI", hours, collection)
    form = Approval.with_initial_data(description=report)
    try:
        said = pause_flow_run(form, timeout=max(1, int(hours * 3600)), poll_interval=ASKED_EVERY_SECONDS)
    except FlowPauseTimeout as error:
        raise RejectedError(
            f"{collection} was not promoted: nobody approved it within {hours:g} hours (approval_hours). It stays "
            "ready. Run `lockstep promote` to ask again."
        ) from error
    if not said.approve:
        raise RejectedError(
            f"{collection} was not promoted: it was rejected ({said.comment or 'no reason was given'}). It stays ready."
        )
    return str(said.comment)
