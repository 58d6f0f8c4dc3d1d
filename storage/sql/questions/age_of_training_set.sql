-- How old is what trains, and which is the oldest trajectory that still does?
-- A row a round that made some of it. Old ones of a much weaker policy may hold the new one back: `learning.fade`.
SELECT
    trajectories.round AS made_in_round,
    count(*) AS trajectories,
    count(*) / sum(count(*)) OVER () AS share,
    count(DISTINCT trajectories.problem_id) AS problems,
    min(trajectories.created_at) AS oldest,
    arg_min(trajectories.trajectory_id, trajectories.created_at) AS oldest_trajectory
FROM current_selections AS decided
JOIN trajectories USING (trajectory_id)
WHERE decided.kept
GROUP BY trajectories.round
ORDER BY made_in_round
