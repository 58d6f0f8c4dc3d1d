-- What to train on after the selection of a round: what is kept, of all rounds, newer ones in a greater share of the passes.
-- $line, $round: by the decisions of the line up to this round.
-- $fade: share that is left with each round of age; 1 keeps all.

WITH decided AS (
    SELECT trajectory_id, arg_max(kept, (round, created_at)) AS kept
    FROM selections
    WHERE line = $line AND round <= $round
    GROUP BY trajectory_id
),
chosen AS (
    SELECT trajectory_id, problem_id, text, token_ids, round, behaviours, checkpoint_id
    FROM trajectories
    SEMI JOIN (FROM decided WHERE kept) USING (trajectory_id)
),
prompts AS (
    SELECT problem_id, min(prompt) AS prompt FROM problems GROUP BY problem_id
)
SELECT
    trajectory_id,
    problem_id,
    prompt,
    text,
    token_ids,
    round,
    behaviours,
    $fade ** (max(round) OVER () - round) AS share,
    1.0::DOUBLE AS weight,
    checkpoint_id
FROM chosen
JOIN prompts USING (problem_id)
ORDER BY trajectory_id
