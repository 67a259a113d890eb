"""Odd and broken files: each row of the page's table has the test that shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests import ROOT
from tests.data import test_shapes as shapes
from tests.data import test_sounds as sounds
from tests.data import test_videos as videos

SHOWN_BY: dict[str, list[Callable[..., Any]]] = {
    "WAV of 8, 16, 24": [sounds.test_samples_are_those_of_libsndfile],
    "MP3 inside WAV": [sounds.test_mp3_inside_wav],
    "stereo, or up to 64": [
        sounds.test_loud_channels_stay_within_the_range,
        sounds.test_six_channels_are_mixed_with_weights_of_at_most_one,
    ],
    "9, 11, … channels": [sounds.test_a_file_that_is_no_sound_says_where_it_is_and_why],
    "silence": [sounds.test_silence_is_zeros],
    "shorter than the window": [sounds.test_a_sound_shorter_than_its_window_is_followed_by_zeros],
    "no samples, or too few": [sounds.test_one_sample_is_a_sound],
    "sound whose header claims hours": [
        sounds.test_a_header_that_claims_hours_is_not_believed,
        sounds.test_a_long_sound_whose_header_says_nothing_is_refused_while_it_is_decoded,
    ],
    "sound that is cut": [sounds.test_a_sound_that_is_cut_is_read_as_far_as_it_goes],
    "sound with damaged packets": [
        sounds.test_damage_in_the_middle_costs_only_its_surroundings,
        sounds.test_a_sound_most_of_which_is_damaged_is_refused,
    ],
    "floating-point samples a little": [sounds.test_samples_a_little_above_the_range_are_clipped],
    "floating-point samples that are NaN": [sounds.test_a_file_that_is_no_sound_says_where_it_is_and_why],
    "FLAC called": [
        sounds.test_the_content_decides_and_not_the_name,
        shapes.test_the_content_decides_where_it_tells_the_format,
    ],
    "playlist": [
        sounds.test_a_file_that_is_no_sound_says_where_it_is_and_why,
        videos.test_a_file_that_is_no_video_says_where_it_is_and_why,
    ],
    "video without a video stream": [videos.test_a_file_that_is_no_video_says_where_it_is_and_why],
    "variable frame rate": [videos.test_at_a_variable_rate_segments_are_of_equal_time],
    "phone video": [videos.test_a_phones_video_is_set_upright],
    "pixels that are no squares": [videos.test_pixels_that_are_no_squares_are_stretched],
    "neither duration nor number": [videos.test_a_stream_of_which_neither_duration_nor_number_of_frames_is_known],
    "video of fewer frames": [videos.test_a_video_of_fewer_frames_than_are_asked_for_gives_some_again],
    "video that is cut": [
        videos.test_a_video_that_is_cut_is_read_as_far_as_it_goes,
        videos.test_a_file_that_is_no_video_says_where_it_is_and_why,
    ],
    "damaged frame": [videos.test_a_damaged_frame_is_replaced_by_its_neighbor],
    "all frames damaged": [videos.test_a_video_all_of_whose_frames_are_damaged],
    "frame of gigapixels": [videos.test_a_frame_of_gigapixels_is_refused],
    "OFF with numbers": [shapes.test_headers_of_off_as_modelnet_has_them],
    "OBJ whose faces": [shapes.test_faces_of_obj_may_count_backwards],
    "mesh without faces": [shapes.test_of_a_cloud_all_points_are_taken_before_one_is_again],
    "faces without an area": [
        shapes.test_faces_without_an_area_have_no_points,
        shapes.test_a_file_that_is_no_shape_says_where_it_is_and_why,
    ],
    "NaN or infinite vertices": [
        shapes.test_a_file_that_is_no_shape_says_where_it_is_and_why,
        shapes.test_vertices_without_a_face_do_not_matter,
    ],
    "NaN points of a cloud": [shapes.test_points_of_a_scan_that_are_not_numbers_are_left_out],
    "all points at one place": [shapes.test_a_file_that_is_no_shape_says_where_it_is_and_why],
    "faces of vertices that are not there": [shapes.test_a_file_that_is_no_shape_says_where_it_is_and_why],
    "header of a mesh or a cloud": [shapes.test_a_file_that_is_no_shape_says_where_it_is_and_why],
    "OBJ with `mtllib`": [shapes.test_what_a_shape_refers_to_is_not_opened],
    "GLB whose geometry": [shapes.test_a_file_that_is_no_shape_says_where_it_is_and_why],
    "GLB whose nodes": [shapes.test_a_part_that_a_scene_shows_a_thousand_times_counts_a_thousand_times],
    "PLY with strips": [shapes.test_a_file_that_is_no_shape_says_where_it_is_and_why],
    "zip or gzip archive": [shapes.test_a_file_that_is_no_shape_says_where_it_is_and_why],
    "PCD whose compressed size lies": [shapes.test_a_file_that_is_no_shape_says_where_it_is_and_why],
    "empty file": [
        sounds.test_a_file_that_is_no_sound_says_where_it_is_and_why,
        videos.test_a_file_that_is_no_video_says_where_it_is_and_why,
        shapes.test_a_file_that_is_no_shape_says_where_it_is_and_why,
    ],
}
"""the beginning of a row's first cell -> the tests"""


def test_each_row_of_odd_and_broken_files_has_a_test() -> None:
    section = (ROOT / "docs" / "media.md").read_text("utf-8").partition("## Odd and broken files")[2]
    rows = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")][1:]
    found = [[start for start in SHOWN_BY if row.startswith(start)] for row in rows]
    assert len(rows) == len(SHOWN_BY) >= 20
    assert [starts for starts in found if len(starts) != 1] == [], rows
