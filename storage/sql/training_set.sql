-- What to train on after the selection of a round: what is kept, of all rounds, in shares of the passes.
-- Newer solutions have a greater share, and those of problems that the policy that found them mostly failed.
-- $line, $round: by the decisions of the line up to this round.
-- $fade: share that is left with each round of age; 1 keeps all.
-- $focus: power of the failed share, which is Beta(1 + failed, 1 + solved)'s mean over the search; 0 makes all alike.

WITH decided AS (
    SELECT trajectory_id, arg_max(kept, (round, created_at)) AS kept
    FROM selections
    WHERE line = $line AND round <= $round
    GROUP BY trajectory_id
),
chosen AS (
    SELECT trajectory_id, problem_id, text, token_ids, run_id, round, behaviours
    FROM trajectories
    SEMI JOIN (FROM decided WHERE kept) USING (trajectory_id)
),
searched AS (
    SELECT problem_id, run_id, round, (1 + count(*) FILTER (NOT solved)) / (2 + count(*)) AS failed_share
    FROM trajectories
    WHERE line = $line
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
    $fade ** (max(round) OVER () - round) * failed_share ** $focus AS share
FROM chosen
JOIN searched USING (problem_id, run_id, round)
JOIN prompts USING (problem_id)
ORDER BY trajectory_id
