"""Whether every reader can tell the lines of a figure apart: by colour with any colour vision, and without colour.

Colour vision is simulated with the matrices of Machado, Oliveira and Fernandes (2009, severity 1.0) on linear RGB;
distances are CIEDE2000. Both come from the package colour-science, and are held against published numbers here.
"""

import itertools

import numpy as np

# The package changes how numpy prints numbers, in all tests of the process, and so what CSV files hold.
PRINTED = np.get_printoptions()
import colour

np.set_printoptions(**PRINTED)
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from unmask.analysis.figures.decoding import SURROGATES
from unmask.analysis.figures.looks import DASHES, MARKERS, PALETTE, lines_of, looks_of
from unmask.analysis.figures.style import COUNTS, finish, handles_of, plt
from unmask.analysis.figures.tabular import CURVES
from unmask.config.grid.expand import expand
from unmask.config.loading import load_config
from unmask.config.schema.introspection import declared_names, method_class
from unmask.methods import Method, method_look

# colour-science says each time that the authors call tritanopia an approximation.
pytestmark = pytest.mark.filterwarnings("ignore:.*simulation of tritanomaly")
DISTANCE = 12.0  # CIEDE2000; about 1 is the least that an eye sees side by side
CONTRAST_OF_LINES = 3.0  # to white, of graphics in WCAG 2.2
CONTRAST_OF_TEXT = 4.5
VISION = {"normal": None, "deuteranopia": "Deuteranomaly", "protanopia": "Protanomaly", "tritanopia": "Tritanomaly"}
# Colours that were in use before: SFT and coupled-GRPO, as two greys with deuteranopia.
CONFUSED = ("#999999", "#CC79A7")


def simulated(rgb, vision):
    """Linear RGB [..., 3] as seen with a colour vision deficiency."""
    if VISION[vision] is None:
        return rgb
    matrix = colour.blindness.matrix_cvd_Machado2009(VISION[vision], 1.0)
    return np.clip(rgb @ matrix.T, 0, 1)


def distances(colours, vision):
    """CIEDE2000 of each pair of colours, by pair."""
    linear = colour.cctf_decoding(np.array([to_rgb(one) for one in colours]), function="sRGB")
    xyz = colour.RGB_to_XYZ(simulated(linear, vision), "sRGB")
    lab = colour.XYZ_to_Lab(xyz, colour.CCS_ILLUMINANTS["CIE 1931 2 Degree Standard Observer"]["D65"])
    pairs = list(itertools.combinations(range(len(colours)), 2))
    first, second = np.array(pairs).T
    found = colour.delta_E(lab[first], lab[second], method="CIE 2000")
    return {(colours[i], colours[j]): float(d) for (i, j), d in zip(pairs, found, strict=True)}


def too_close(colours, vision):
    return {pair: d for pair, d in distances(sorted(set(colours)), vision).items() if d < DISTANCE}


def contrast(one):
    """Contrast ratio to white [WCAG 2.2, relative luminance]."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(one))
    return 1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05)


def scale(name):
    values = load_config()
    values["scale"] = name
    return expand(values)


@pytest.fixture(scope="module")
def drawn():
    """Methods and variants of each experiment that has figures, at a small and at the papers' scale."""
    found = {}
    for name in ("laptop", "llada-8b"):
        grid = scale(name)
        for experiment in grid.experiments.values():
            runs = [grid.runs[run] for run in experiment.runs]
            # These have no line for each value of the setting on the axis or each moment of a training, or no colours.
            if set(experiment.figures) - {"accuracy_by_setting", "checkpoint_choice", "accuracy_by_method"}:
                found[name, experiment.name] = pd.DataFrame({
                    "method": [run.method for run in runs],
                    "variant": [run.variant for run in runs],
                })  # fmt: skip
    return found


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def catalogue():
    """Looks of all methods and recipes that ship with the project."""
    names = sorted(declared_names("methods"))
    names += [recipe for name in names for recipe in method_class(name).recipes]
    return {name: method_look(name) for name in names}


def test_simulation_and_distance_are_the_published_ones():
    # Machado et al. 2009, table 1, severity 1.0; Sharma, Wu and Dalal 2005, table 1, pairs 1 and 17.
    expected = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    assert colour.blindness.matrix_cvd_Machado2009("Deuteranomaly", 1.0) == pytest.approx(np.array(expected), abs=1e-6)
    pairs = {((50, 2.6772, -79.7751), (50, 0, -82.7485)): 2.0425, ((50, 2.5, 0), (73, 25, -18)): 27.1492}
    for (first, second), distance in pairs.items():
        found = colour.delta_E(np.array(first), np.array(second), method="CIE 2000")
        assert found == pytest.approx(distance, abs=1e-4)
    assert contrast("#767676") == pytest.approx(4.54, abs=0.01)  # the lightest grey for text


def test_a_pair_of_colours_that_was_confused_is_found():
    assert too_close(CONFUSED, "normal") == {}
    assert too_close(CONFUSED, "deuteranopia")


@pytest.mark.parametrize("vision", VISION)
def test_colours_of_an_experiment_are_told_apart(drawn, vision):
    close = {}
    for name, frame in drawn.items():
        lines = lines_of(frame, pd.DataFrame())
        colours = [line.look.colour for line in lines.values()]
        assert len(set(colours)) == len(lines), name
        if found := too_close(colours, vision):
            close[name] = found
    assert close == {}


@pytest.mark.parametrize("vision", VISION)
def test_other_colours_of_one_figure_are_told_apart(vision):
    assert too_close(PALETTE, vision) == {}
    assert too_close([line.look.colour for line in SURROGATES.values()], vision) == {}
    assert too_close([line.look.colour for line in CURVES.values()], vision) == {}


def test_lines_are_told_apart_without_colour(drawn):
    for name, frame in drawn.items():
        looks = [line.look for line in lines_of(frame, pd.DataFrame()).values()]
        assert len({look.marker for look in looks}) == len(looks), name
    looks = [line.look for line in CURVES.values()]
    assert len({look.marker for look in looks}) == len({look.dash for look in looks}) == len(looks)


def test_marker_and_dash_of_a_method_are_its_own():
    looks = catalogue()
    assert len({(look.marker, look.dash) for look in looks.values()}) == len(looks) >= 20
    assert len({look.label for look in looks.values()}) == len(looks)
    default = (Method.marker, Method.dash)
    assert default not in {(look.marker, look.dash) for look in looks.values()}
    assert {look.dash for look in looks.values()} <= DASHES.keys()


def test_colours_have_enough_contrast_to_white_and_labels_are_black():
    shown = [look.colour for look in catalogue().values()] + [line.look.colour for line in CURVES.values()]
    assert {one for one in (*shown, *PALETTE) if contrast(one) < CONTRAST_OF_LINES} == set()
    figure, _ = plt.subplots()
    finish(figure, handles_of(CURVES.values()), "5 seeds")
    (legend,) = figure.legends
    (counts,) = figure.findobj(lambda artist: artist.get_gid() == COUNTS)
    texts = [*legend.get_texts(), counts]
    assert [text.get_text() for text in texts] == [*(line.name for line in CURVES.values()), "5 seeds"]
    assert min(contrast(text.get_color()) for text in texts) >= CONTRAST_OF_TEXT
    assert min(text.get_fontsize() for text in texts) >= 8
    assert contrast(plt.rcParams["text.color"]) >= CONTRAST_OF_TEXT


def test_looks_differ_where_a_figure_has_more_lines_than_colours():
    policies = [("dmpo", f"group_size~{size}") for size in range(30)]
    looks = looks_of(policies, policies[:1])
    assert looks[policies[0]] == method_look("dmpo")
    assert len({(look.marker, look.dash) for look in looks.values()}) == 30
    assert len(MARKERS) * len(DASHES) > 30


# --- names ------------------------------------------------------------------------------------------------------------


def metrics(*runs):
    rows = [{"method": m, "variant": v, "task": t, "seed": 0, "settings": s} for m, v, t, s in runs]
    return pd.DataFrame(rows)


def test_the_default_variant_is_named_by_its_settings_and_looks_like_its_method():
    logged = metrics(
        ("dmpo", "baseline~none+group_size~4", "sudoku", '{"baseline": "none", "group_size": 4, "alpha": 0.1}'),
        ("dmpo", "group_size~4", "sudoku", '{"baseline": "group", "group_size": 4, "alpha": 0.1}'),
    )
    lines = lines_of(logged, logged)
    none, group = lines.values()
    assert (none.name, group.name) == ("DMPO (baseline none)", "DMPO (baseline group)")
    assert group.look == method_look("dmpo")
    assert not set(none.look[1:]) & set(group.look[1:])


def test_a_default_that_differs_between_tasks_is_not_named_after_one_of_them():
    logged = metrics(
        ("dmpo", "default", "sudoku", '{"baseline": "group"}'),
        ("dmpo", "default", "countdown", '{"baseline": "individual"}'),
        ("dmpo", "baseline~none", "sudoku", '{"baseline": "none"}'),
    )
    assert [line.name for line in lines_of(logged, logged).values()] == [
        "DMPO (baseline by task)", "DMPO (baseline none)",
    ]  # fmt: skip


def test_names_without_known_settings_and_of_a_single_variant():
    frame = pd.DataFrame({"method": ["dmpo", "dmpo", "d1"], "variant": ["default", "alpha~1", "group_size~4"]})
    names = [line.name for line in lines_of(frame, pd.DataFrame()).values()]
    assert names == ["DMPO (default)", "DMPO (alpha 1)", "d1 (group size 4)"]


def test_a_policy_trained_elsewhere_is_told_from_the_one_of_the_task_itself():
    frame = pd.DataFrame({"method": ["diffpo"] * 2, "variant": ["default", "trained_on~countdown"]})
    names = [line.name for line in lines_of(frame, pd.DataFrame()).values()]
    assert names == ["DiFFPO (trained on the task itself)", "DiFFPO (trained on countdown)"]
