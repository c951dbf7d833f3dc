"""What a run tells its flatbuffers, and what it does not."""

from types import SimpleNamespace

from bitat_tf import deployment
from bitat_tf.recipe_files import load_recipe
from bitat_tf.results import AuditReport, ModelScore

AUDIT = AuditReport((), 100, (1, 4, 4, 3), "FLOAT32", (1, 2), "FLOAT32")


def run_of(*settings):
    images = SimpleNamespace(
        name="flowers",
        class_names=("rose", "tulip"),
        mean=(1.0, 2.0, 3.0),
        std=(4.0, 5.0, 6.0),
        pixel_max=255,
        test_images=50,
    )
    return SimpleNamespace(images=images, recipe=load_recipe("digits-demo", settings))


def test_where_the_data_lay_stays_here():
    run = run_of("data.dataset=/home/somebody/flowers", "data.data_dir=/home/somebody/sets")
    known = deployment.metadata(run, deployment.STUDENT, AUDIT, None, ())
    assert "somebody" not in repr(known)
    assert known.dataset == known.recipe["data"]["dataset"] == "flowers"
    assert run.recipe.data.dataset == "/home/somebody/flowers"


def test_what_was_not_measured_is_not_said():
    known = deployment.metadata(run_of(), deployment.STUDENT, AUDIT, None, ())
    assert known.keras_accuracy is None
    assert known.agreement is None
    scores = (ModelScore("float", 0.9, None), ModelScore("trained", 0.8, None))
    known = deployment.metadata(run_of(), deployment.STUDENT, AUDIT, None, scores)
    assert known.keras_accuracy.share == 0.8
    assert known.keras_accuracy.images == 50


def test_resizing_is_part_of_the_preprocessing():
    known = deployment.metadata(
        run_of("data.dataset=flowers", "data.image_size=224", "data.center_share=0.9"),
        deployment.TEACHER,
        AUDIT,
        None,
        (),
    )
    assert (known.preprocessing.image_size, known.preprocessing.center_share) == (224, 0.9)
    whole = deployment.metadata(run_of(), deployment.TEACHER, AUDIT, None, ()).preprocessing
    assert (whole.image_size, whole.center_share) == (0, 1.0)
