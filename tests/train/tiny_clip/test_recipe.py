from train.tiny_clip.recipe import MODEL, TEMPLATES, filled, tokens


def test_articles_follow_the_class_name() -> None:
    assert filled("a photo of a {}", "airplane") == "a photo of an airplane"
    assert filled("a photo of a {}", "dog") == "a photo of a dog"
    assert filled("the {}", "airplane") == "the airplane"


def test_every_template_is_encoded_for_every_class() -> None:
    rows = tokens(("cat", "dog"))
    assert rows.shape == (len(TEMPLATES), 2, MODEL["text_cfg"]["context_length"])
    assert len({tuple(row.tolist()) for row in rows.flatten(0, 1)}) == 2 * len(TEMPLATES)
