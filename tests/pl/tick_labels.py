"""What is written along an axis."""


def tick_labels(axis):
    return [text.get_text() for text in axis.get_ticklabels()]
