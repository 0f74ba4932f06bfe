"""What a fit leaves behind: the whole of its state, or the state that was there before."""

from __future__ import annotations

import functools

from ._compat import fit_context
from ._threads import one_thread_in_workers, take_one_thread_where_forked


class InterruptedFit(KeyboardInterrupt):
    """A fit was interrupted and has kept what it learned."""


def whole_fit(fit):
    """Decorate a ``fit`` to check its parameters, and to restore the estimator where it fails.

    After an error, and after an interrupt before anything was learned, the estimator is as it was
    before the call: fitted as it was, or not at all. :class:`InterruptedFit` passes with the state
    that the fit has stored.
    """
    checked = fit_context(prefer_skip_nested_validation=True)(fit)

    @functools.wraps(fit)
    def fit_or_restore(self, *args, **kwargs):
        take_one_thread_where_forked()
        earlier = dict(vars(self))
        try:
            with one_thread_in_workers():
                return checked(self, *args, **kwargs)
        except InterruptedFit:
            raise
        except BaseException:
            vars(self).clear()
            vars(self).update(earlier)
            raise

    return fit_or_restore
