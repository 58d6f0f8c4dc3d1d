-- How a line's checkpoints did on the final problems, each by its newest evaluation of greedy answers.
-- $line, $round: made up to this round.
SELECT
    checkpoints.round,
    checkpoint_id AS candidate,
    accuracy,
    low,
    high,
    num_problems,
    pass_at_8,
    num_pass_problems,
    chance,
    brute_force,
    evaluations.num_tokens,
    evaluations.seconds
FROM evaluations
JOIN checkpoints USING (checkpoint_id)
WHERE evaluations.line = $line AND evaluations.round <= $round AND split = 'final' AND strategy = 'greedy'
QUALIFY row_number() OVER (PARTITION BY checkpoint_id ORDER BY evaluations.created_at DESC) = 1
ORDER BY checkpoints.round, checkpoint_id
