"""The code sandbox: programs in, outcomes out."""

from fusedata.verify.sandbox.pool import VERSION, Sandbox
from fusedata.verify.sandbox.programs import Outcome, Program

__all__ = ["VERSION", "Outcome", "Program", "Sandbox"]
