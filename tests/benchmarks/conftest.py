"""Prints what the benchmarks found out beside their times: ratios taken in one run."""


def pytest_terminal_summary(terminalreporter, config):
    session = getattr(config, "_benchmarksession", None)
    if session is None:
        return
    for bench in session.benchmarks:
        if bench.extra_info:
            terminalreporter.write_line(f"{bench.name}: " + ", ".join(f"{k} {v}" for k, v in bench.extra_info.items()))
