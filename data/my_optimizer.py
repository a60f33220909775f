"""A worked entry for the laptop race of notebook 12: copy it, and change one thing at a time."""

from muon_lab.after_muon import NorMuon


class MyMuon(NorMuon):
    """Even rows, from an orthogonalization that comes closer to 1 in the same five steps."""

    def __init__(self, groups, lr, weight_decay):
        """Take the parameter groups, and the two settings that a sweep varies."""
        super().__init__(groups, lr, weight_decay, ns_coefficients="polar_express")
