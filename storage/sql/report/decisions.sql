-- Who was made champion, or not, besides the gate's decisions on the rounds' candidates: retrains, and what people did.
-- $line, $round: made up to the end of this round.

WITH benchmarked AS (
    SELECT * FROM evaluations
    WHERE split = 'benchmark'
    QUALIFY row_number() OVER (PARTITION BY checkpoint_id ORDER BY created_at) = 1
)
SELECT
    promotions.round,
    promotions.candidate_id AS candidate,
    promotions.verdict,
    promotions.reason,
    promotions.decided_by,
    benchmarked.accuracy,
    benchmarked.low,
    benchmarked.high,
    benchmarked.num_problems,
    benchmarked.chance,
    benchmarked.brute_force
FROM promotions
JOIN benchmarked ON benchmarked.checkpoint_id = promotions.candidate_id
LEFT JOIN rounds ON rounds.line = promotions.line AND rounds.candidate_id = promotions.candidate_id
WHERE promotions.line = $line
    AND promotions.round <= $round
    AND (rounds.candidate_id IS NULL OR promotions.decided_by <> 'gate')
ORDER BY promotions.sequence
