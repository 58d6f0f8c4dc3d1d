-- From the champion back to the initial policy: what made it?
-- Each row was trained from the one below it; an accuracy that falls between two was accepted by a person.
WITH RECURSIVE lineage AS (
    SELECT checkpoints.*
    FROM checkpoints
    JOIN champions ON champions.champion_id = checkpoints.checkpoint_id
    UNION ALL
    SELECT checkpoints.*
    FROM checkpoints
    JOIN lineage ON lineage.parent_id = checkpoints.checkpoint_id
)
SELECT
    lineage.round,
    lineage.checkpoint_id,
    lineage.objective,
    lineage.num_examples,
    lineage.num_tokens,
    lineage.loss,
    lineage.seconds,
    history.accuracy
FROM lineage
LEFT JOIN history ON history.candidate = lineage.checkpoint_id
ORDER BY lineage.line, lineage.round DESC
