-- How did each training go, and how much of what it learnt from did another policy write?
-- A loss that rises at the end, a gradient that grows or a kl that jumps says that the learning rate is too high; tokens_per_s fall where examples are long.
WITH trained AS (
    SELECT
        checkpoint_id,
        count(*) AS num_steps,
        avg(loss) FILTER (WHERE step <= 0.1 * last) AS first_loss,
        avg(loss) FILTER (WHERE step > 0.9 * last) AS last_loss,
        avg(grad_norm) AS grad_norm,
        avg(kl) FILTER (WHERE step > 0.9 * last) AS last_kl,
        avg(entropy) FILTER (WHERE step > 0.9 * last) AS last_entropy,
        avg(clip_share) AS clip_share,
        avg(pairs_right) FILTER (WHERE step > 0.9 * last) AS last_pairs_right,
        sum(num_tokens) / sum(seconds) AS tokens_per_s
    FROM (SELECT *, max(step) OVER (PARTITION BY checkpoint_id) AS last FROM training_steps)
    GROUP BY checkpoint_id
)
SELECT checkpoints.round, checkpoint_id, objective, num_examples, stale_share, trained.* EXCLUDE (checkpoint_id)
FROM checkpoints
JOIN trained USING (checkpoint_id)
ORDER BY checkpoints.created_at
