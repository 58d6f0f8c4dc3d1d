-- Seconds and tokens of each stage of a line's closed rounds; null where they are not recorded.
-- $line, $round: up to this round.

WITH closed AS (
    SELECT * FROM rounds WHERE line = $line AND round <= $round
),
names AS (
    SELECT round, stage_seconds, unnest(json_keys(stage_seconds)) AS stage FROM closed
),
timed AS (
    SELECT round, stage, (stage_seconds ->> stage)::DOUBLE AS seconds FROM names
),
counted AS (  -- those of round 0's search are the preflight's
    SELECT round, 'search' AS stage, num_tokens
    FROM searches
    SEMI JOIN closed USING (run_id, round)
    WHERE line = $line
    UNION ALL
    SELECT round, if(objective = 'initialization', 'initialize', 'finetune'), num_tokens
    FROM checkpoints
    SEMI JOIN closed ON closed.candidate_id = checkpoints.checkpoint_id
    UNION ALL
    SELECT evaluations.round, 'evaluate', evaluations.num_tokens
    FROM evaluations
    JOIN closed USING (run_id, round)
    WHERE split = 'benchmark' AND evaluations.created_at <= closed.created_at  -- later ones a person asked for
),
summed AS (
    SELECT round, stage, sum(num_tokens)::BIGINT AS num_tokens FROM counted GROUP BY ALL
)
SELECT round, stage, seconds, num_tokens
FROM timed
FULL JOIN summed USING (round, stage)
ORDER BY round, stage
