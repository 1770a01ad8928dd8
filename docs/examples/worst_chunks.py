"""A metric of one's own: how much of the loss the worst chunks hold."""


def worst_chunks(table, share: float = 0.1):
    figures = {}
    for name in table.column_names:
        if name.startswith("nats_"):
            nats = sorted(table[name].to_pylist(), reverse=True)
            worst = nats[: max(1, int(share * len(nats)))]
            figures[name.removeprefix("nats_")] = sum(worst) / sum(nats)
    return figures
