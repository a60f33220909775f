"""The exercise of notebook 00: to learn how exercises work."""

from muon_lab.exercises.exercise import Exercise


def share_removed(first, last):
    return (first - last) / first


q1 = Exercise(
    question="Which share of the loss has a run removed?",
    reference=share_removed,
    cases=[(4.0, 1.0), (2.0, 2.0), (10.0, 0.0), (1.0, 1.5)],
    hints=[
        "From a loss of 4 to a loss of 1, three quarters are gone: the answer is 0.75.",
        "How much is gone, divided by how much there was.",
        "(first - last) / first",
    ],
    mistakes="""
        (first - last) => last
            That is the share that is left. What was removed is the rest.
        (first - last) / first => 100 * (first - last) / first
            That is in percent. As a share, all of it is 1.
        / first =>
            That is how much was removed, in units of loss. Divide by the first loss.
        / first => / last
            Divide by the loss there was at first, not by the one at the end.
        first - last => last - first
            The sign is reversed: a run whose loss falls removes a positive share.
    """,
    because="From 4 to 1 is a share of 0.75; a run that makes things worse has a negative one.",
)
