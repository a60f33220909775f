"""Exercises of notebook 10: who does what on many machines, and what is sent and held."""

from muon_lab.exercises.exercise import Exercise, itself


def share_out(costs, ranks):
    work = [0] * ranks
    owners = [None] * len(costs)
    for item in sorted(range(len(costs)), key=lambda i: -costs[i]):
        owner = work.index(min(work))
        owners[item] = owner
        work[owner] += costs[item]
    return owners


q1 = Exercise(
    question="Share work out: the largest first, each to the rank with the least work so far.",
    reference=share_out,
    cases=[([3, 9, 5, 4, 2], 2), ([7, 7, 7, 1], 3), ([5, 8, 6, 7, 2, 3, 4], 3), ([4], 2)],
    hints=[
        "Who has the least so far? `work.index(min(work))`, the first of equals.",
        "Add what it takes on to its work: work[owner] += costs[item].",
    ],
    mistakes="""
        key=lambda i: -costs[i] => key=lambda i: costs[i]
            The smallest come first: a large one at the end then has nothing to balance it.
        key=lambda i: -costs[i] => key=lambda i: i
            These are in the order given: begin with the largest.
        work.index(min(work)) => work.index(max(work))
            All of it goes to rank 0: take the least busy rank, and count what it takes.
        work.index(min(work)) => item % ranks
            They go round in turn, whatever they cost: look at the work so far.
        work[owner] += costs[item] => work[owner] += 1
            You count how many each rank has, not what they cost.
        work[owner] += costs[item] => work[owner] = costs[item]
            The new cost replaces the work so far: add it.
    """,
    because="Every rank can compute this by itself, and all get the same answer: nothing is sent.",
)


def speed_up(costs, owners, ranks):
    work = [sum(c for c, o in zip(costs, owners, strict=True) if o == r) for r in range(ranks)]
    return sum(costs) / max(work)


q2 = Exercise(
    question="How many times faster is the shared work than one rank doing everything?",
    reference=speed_up,
    cases=[([3, 9, 5, 4, 2], [1, 0, 1, 1, 0], 2), ([8, 1, 1], [0, 1, 2], 3), ([4], [0], 2)],
    hints=[
        "The step ends when the busiest rank is done.",
        "All the work, divided by the busiest rank's.",
    ],
    mistakes="""
        sum(costs) / max(work) => sum(costs) / (sum(work) / ranks)
            That is `ranks`, the best case. Here the work is unequal: who finishes last?
        sum(costs) / max(work) => sum(costs) / max(min(work), 1e-9)
            That divides by the idlest rank's work: the others are not done by then.
        sum(costs) / max(work) => max(work) / sum(costs)
            That is the share of the time that is left: turn it over.
        sum(costs) / max(work) => max(work)
            That is the busiest rank's work. Compare it with all of it.
    """,
    because="One large matrix limits it: no number of ranks is faster than the largest matrix.",
)


def bytes_sent(parameters, ranks):
    once = 4 * parameters * (ranks - 1) / ranks
    return 2 * once + once


q3 = Exercise(
    question="How many bytes does each rank send per step? (float32: gradients, then updates)",
    reference=bytes_sent,
    cases=[(1_000_000, 2), (1_000_000, 3), (6_000, 8), (500, 1)],
    hints=[
        "To average the gradients, each piece goes around the ranks once to be added up, and once "
        "more to be handed out.",
        "An update is only handed out: once.",
        "A rank does not send its own share to itself: (ranks - 1) / ranks of everything.",
    ],
    mistakes="""
        return 2 * once + once => return 2 * once
            That is two thirds: gradients are sent twice (to be added up, to be handed out), and
            the updates once more.
        return 2 * once + once => return once
            That is the updates. The gradients are averaged first: twice as many bytes again.
        return 2 * once + once => return 2 * once + 2 * once
            An update is not added up on its way: it is sent once.
        return 2 * once + once => return (2 * once + once) / 4
            These are numbers. A float32 has four bytes.
        return 2 * once + once => return (2 * once + once) * ranks
            That is all ranks together. How much does one of them send?
        4 * parameters * (ranks - 1) / ranks => 4 * parameters
            A rank does not send its own share: with one rank nothing is sent at all.
        4 * parameters * (ranks - 1) / ranks => 4 * parameters / ranks
            Turn it around: the rank's own share, 1 / ranks, is what is *not* sent.
    """,
    because="Half as much again as AdamW sends, and almost the same for 8 ranks as for 8,000.",
)


def bytes_held(parameters, ranks):
    number = 4 * parameters
    everyone = 3 * number
    owner = 2 * number + number / ranks
    sharded = 3 * number / ranks
    return everyone, owner, sharded


q4 = Exercise(
    question="How many bytes does each rank hold: DDP; momentum with its owner alone; FSDP?",
    reference=bytes_held,
    parts=("everyone", "owner", "sharded"),
    cases=[(1_000_000, 2), (6_000, 8), (500, 1)],
    hints=[
        "Three things: weights, gradients, momentum. Four bytes per number.",
        "With DDP every rank has all three. FSDP cuts all three.",
        "With `shard_momentum` only the momentum is divided by the ranks.",
    ],
    mistakes="""
        everyone = 3 * number => everyone = number
            `everyone`: count weights and gradients as well as the momentum.
        everyone = 3 * number => everyone = 4 * number
            `everyone`: that is AdamW, which has two buffers. Muon has one.
        everyone = 3 * number => everyone = 2 * number
            `everyone`: three things are held: weights, gradients, momentum.
        everyone = 3 * number => everyone = 3 * number / ranks
            `everyone`: with DDP each rank has a whole copy of everything.
        owner = 2 * number + number / ranks => owner = 3 * number / ranks
            `owner`: only the momentum is divided; weights and gradients stay whole.
        owner = 2 * number + number / ranks => owner = number / ranks
            `owner`: that is the momentum alone. Weights and gradients are still whole.
        owner = 2 * number + number / ranks => owner = 2 * number
            `owner`: each rank still owns a part of the momentum.
        owner = 2 * number + number / ranks => owner = number + number / ranks
            `owner`: there are whole gradients beside the whole weights.
        sharded = 3 * number / ranks => sharded = 2 * number + number / ranks
            `sharded`: FSDP cuts weights and gradients too.
        sharded = 3 * number / ranks => sharded = number / ranks
            `sharded`: count all three: weights, gradients, momentum.
        number = 4 * parameters => number = parameters
            These are numbers. A float32 has four bytes.
    """,
    because="Sharing the momentum saves at most a third; only FSDP falls with the ranks for good.",
)


q5 = Exercise(
    question="FSDP on 8 ranks: what share of all bytes sent does P = 5 save?",
    formula="(2 / 8 - 2 / 8 / 5) / (3 + 2 / 8)",
    observe=itself,
    tolerance=0.02,
    hints=[
        "Count in units of parameters · (ranks - 1) / ranks numbers. FSDP itself sends 3.",
        "A rank gathers and scatters for Muon only its own shard: 2 / ranks of a unit.",
        "With P = 5 that happens in one step out of five: 3 + 2 / 8 becomes 3 + 2 / 8 / 5.",
    ],
    mistakes=[
        ((2 / 8 - 2 / 8 / 5) / (2 / 8), "That is the share of *Muon's* bytes. What of all bytes?"),
        (
            (2 - 2 / 5) / (3 + 2),
            "A rank sends only its own shard to the owners: 2 / ranks, not 2.",
        ),
        ((2 / 8) / (3 + 2 / 8), "That would be without whole steps: one step in five still sends."),
        (2 / 8 / 5 / (3 + 2 / 8), "That is the share which is still sent. How much is saved?"),
        (100 * (2 / 8 - 2 / 8 / 5) / (3 + 2 / 8), "That is in percent: give the share, under 1."),
        ((2 / 8 - 2 / 8 / 5) / 3, "Divide by all that was sent before: FSDP's 3 and Muon's 2 / 8."),
    ],
    because="Little: with an owner per matrix Muon's part of the bytes is small to begin with.",
)


def balanced_tokens(flops, wires, ranks):
    return 2 * flops / wires * (ranks - 1) / ranks


q6 = Exercise(
    question="From how many tokens per rank on does the model's arithmetic take as long as the "
    "wires?",
    reference=balanced_tokens,
    cases=[(1e11, 2e9, 2), (4e14, 5e10, 64), (4e14, 3e11, 8)],
    hints=[
        "Arithmetic: 6 · parameters · tokens / flops seconds, for the tokens of one rank.",
        "Wires: 3 · 4 · parameters · (ranks - 1) / ranks / wires seconds.",
        "Set the two equal. What becomes of the parameters?",
    ],
    mistakes="""
        2 * flops => 12 * flops
            You left out the 6 FLOPs per parameter and token.
        2 * flops => flops / 2
            Three times four bytes, over 6 FLOPs: that is 2, not a half.
        2 * flops / wires => wires / flops / 2
            Upside down: faster chips need *more* tokens to stay busy.
        2 * flops => 4 / 3 * flops
            That is for the gradients alone, eight bytes per number: the updates add four.
        * (ranks - 1) / ranks =>
            A rank does not send its own share: times (ranks - 1) / ranks.
        * (ranks - 1) / ranks => * (ranks - 1)
            That is for all ranks together: how many tokens does *one* need?
    """,
    because="The model's size cancels: the chip, the wires and the batch decide what binds.",
)
