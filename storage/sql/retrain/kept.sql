-- What the filter keeps as of now, of all rounds.
SELECT trajectory_id FROM current_selections WHERE kept
