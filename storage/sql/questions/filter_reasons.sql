-- What did the filter drop, and why?
-- Of each round's attempts, as it stands now: later rounds may have decided otherwise. What is neither
-- `kept` nor `wrong` is right and still does not train.
SELECT
    trajectories.round,
    decided.reason,
    decided.kept,
    count(*) AS trajectories,
    count(*) / sum(count(*)) OVER (PARTITION BY trajectories.round) AS share
FROM current_selections AS decided
JOIN trajectories USING (trajectory_id)
GROUP BY trajectories.round, decided.reason, decided.kept
ORDER BY trajectories.round, trajectories DESC
