-- Why does the verifier turn attempts down?
-- `unparsed` is a matter of form, `truncated` of `policy.max_new_tokens`, `wrong` of reasoning; `timeout` and `error`
-- should stay near 0.
SELECT
    round,
    reason,
    count(*) AS attempts,
    count(*) / sum(count(*)) OVER (PARTITION BY round) AS share
FROM trajectories
GROUP BY round, reason
ORDER BY round, attempts DESC
