-- What to train on after the selection of a round: what is kept, of all rounds, in a greater share of the passes the
-- later a policy has written it: what a better one writes again is no older than what it finds.
-- $line, $round: by the decisions of the line up to this round.
-- $fade: share that is left with each round since; 1 keeps all.

WITH decided AS (
    SELECT trajectory_id, arg_max(kept, (round, created_at)) AS kept
    FROM selections
    WHERE line = $line AND round <= $round
    GROUP BY trajectory_id
),
reserved AS (
    SELECT DISTINCT problem_id FROM problems WHERE split <> 'train'
),
chosen AS (
    SELECT trajectory_id, problem_id, text, text_digest, token_ids, round, behaviours, checkpoint_id
    FROM trajectories
    SEMI JOIN (FROM decided WHERE kept) USING (trajectory_id)
    ANTI JOIN reserved USING (problem_id)  -- whatever a rule of people's own keeps
),
written AS (
    SELECT problem_id, text_digest, max(round) AS last_round
    FROM trajectories
    SEMI JOIN decided USING (trajectory_id)
    GROUP BY ALL
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
    $fade ** (max(last_round) OVER () - last_round) AS share,
    1.0::DOUBLE AS weight,
    checkpoint_id
FROM chosen
JOIN written USING (problem_id, text_digest)
JOIN prompts USING (problem_id)
ORDER BY trajectory_id
