"""The attention rule."""

from upres.export.flashvsr.graphs.attention import outside_range


def test_the_local_range_is_cut_off_at_the_borders_and_equal_in_every_window():
    # 4 rows of blocks, one column; a query attends to R blocks, starting R//2 above itself.
    outside = outside_range((2, 32, 8), 8, 3)
    assert (~outside[:, :4]).astype(int).tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]]
    assert (outside[:, :4] == outside[:, 4:]).all()
