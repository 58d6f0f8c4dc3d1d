-- Whether trajectories may train: how many were named, and what is the matter with some.
-- $ids: their ids.
-- $line: the line they should be of.

WITH named AS (
    SELECT DISTINCT unnest($ids::VARCHAR[]) AS trajectory_id
),
reserved AS (
    SELECT DISTINCT problem_id FROM problems WHERE split <> 'train'
)
SELECT
    count(*) AS num_named,
    count(*) FILTER (WHERE trajectories.trajectory_id IS NULL) AS num_unknown,
    count(*) FILTER (WHERE line <> $line) AS num_of_other_lines,
    count(*) FILTER (WHERE NOT solved) AS num_wrong,
    count(*) FILTER (WHERE reserved.problem_id IS NOT NULL) AS num_reserved
FROM named
LEFT JOIN trajectories USING (trajectory_id)
LEFT JOIN reserved USING (problem_id)
