"""What a study says of itself."""


def test_the_summary_names_sets_seeds_encoder_and_clean_images(study):
    first, second, third = study.summary().splitlines()
    assert first.startswith("tiny: ")
    assert second == "pre-trained on builtin, attacked for patterns, shapes; seeds [0], compared on [0]"
    made = study.profile.encoder
    encoder = f"ResNet depth {made.depth}, width {made.width}, stem stride {made.stem_stride}"
    assert third.startswith(f"{encoder}; cpu, ")
    assert third.endswith(f"the defender holds {study.stages.share_size()} clean images")


def test_the_set_up_names_the_images_and_the_lengths(study):
    said = study.setup("badencoder")
    assert "simclr 1 epochs by adam 0.002 (constant), batch 1000" in said
    assert "injected for 1 epochs of at most 128 pre-training images by adam 0.001 (constant), batch 64" in said
    assert said.endswith("on at most 300 labelled images, tested on at most 100 test images")
    assert "ctrl with poisoned_class 0, rate 0.01, magnitude 100.0, positions" in study.setup("ctrl")
    assert "injected" not in study.setup("ctrl")
    assert study.stages.precision in study.setup()


def test_the_budget_table_spends_all_views_in_every_row(study):
    table = study.budget_table()
    assert (table.sum(axis=1) == study.profile.defender.views).all()
    shares = study.profile.defender
    repair, warmup = (int(share * shares.views) for share in (shares.teacher, shares.warmup))
    assert list(table.loc["finetuned teacher, warm-up student"]) == [repair, warmup, shares.views - repair - warmup]
    assert list(table.loc["finetune"]) == [shares.views, 0, 0]
