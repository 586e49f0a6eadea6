"""The style for figures of one's own."""

import matplotlib.pyplot as plt
from matplotlib.colors import to_hex

from scmedal_tools.pl._palette import OKABE_ITO


def test_own_figures_have_the_colors_and_axes_of_the_others():
    with plt.style.context("scmedal_tools.style"):
        figure, ax = plt.subplots()
        lines = [ax.plot([i, 1])[0] for i in range(7)]
    plt.close(figure)
    assert [to_hex(line.get_color()) for line in lines] == [to_hex(x) for x in OKABE_ITO]
    assert [side for side, spine in ax.spines.items() if spine.get_visible()] == ["left", "bottom"]
