from distill_lib.plots.bench import LOOPS, alt_bench, draw_bench, numbers_bench


def report(cores=2, names=tuple(LOOPS)):
    rows = [
        {"name": name + end, "ratio": 2.0 + i, "low": 1.5 + i, "high": 2.5 + i, "pairs": 7, "unit": "s / s"}
        for i, name in enumerate(names)
        for end in ("", "_all_cores")
    ]
    rows.append({"name": "step_over_bare", "ratio": 1.2, "low": 1.1, "high": 1.3, "pairs": 7, "unit": "s / s"})
    flat = [
        {"images": count, "microseconds": 100.0 + i, "low": 99.0, "high": 104.0, "rounds": 7}
        for i, count in enumerate((10_000, 30_000, 100_000))
    ]
    return {"hardware": {"cpu": "a processor", "cores": cores, "torch": "2.15"}, "ratios": rows, "flatness": flat}


def test_each_loops_ratio_is_drawn_with_its_quartiles_on_a_log_axis():
    figure = draw_bench(numbers_bench(report()))
    left, right = figure.axes
    assert left.get_xscale() == "log"
    points = [container.lines[0].get_xdata()[0] for container in left.containers]
    assert points == [2.0 + i for i in range(len(LOOPS))]
    (whisker,) = left.containers[0].lines[2]
    assert whisker.get_segments()[0][:, 0].tolist() == [1.5, 2.5]
    assert [line.get_xdata()[0] for line in left.get_lines() if line.get_linestyle() == "--"] == [1]
    assert right.containers[0].lines[0].get_ydata().tolist() == [100.0, 101.0, 102.0]
    assert right.get_ylim()[0] == 0


def test_n_the_limits_and_the_hardware_stand_in_the_figure():
    words = " ".join(text.get_text() for text in draw_bench(numbers_bench(report())).texts)
    words = words.replace("\N{NO-BREAK SPACE}", " ").replace("\n", " ")
    assert "a processor, 2 cores, torch 2.15" in words
    assert "median of n = 7 interleaved pairs; whiskers: their quartiles" in words
    assert "bare forward and backward: 1.20 [1.10, 1.30]" in words


def test_rows_of_all_cores_are_drawn_only_where_there_are_more_than_the_workers():
    assert len(numbers_bench(report(2))["loops"]) == len(LOOPS)
    assert len(numbers_bench(report(16))["loops"]) == 2 * len(LOOPS)


def test_no_row_is_said():
    assert "Nothing has been timed" in draw_bench(numbers_bench(report(names=()))).texts[0].get_text()


def test_the_alt_text_says_every_ratio():
    words = alt_bench(numbers_bench(report(names=("simclr_step", "augmentation"))))
    assert "SimCLR step 2.0, augmentation alone 3.0" in words
    assert "100,000 images 102" in words
