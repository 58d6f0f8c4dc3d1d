-- Is the policy surer of right attempts than of wrong ones?
-- The mean log-probability a token of each. The further right lies above wrong, the better could the policy choose
-- among its own attempts; `auc` is how often a right one beats a wrong one of the same round.
WITH scored AS (
    SELECT round, solved, list_avg(logprobs) AS sureness FROM trajectories WHERE num_tokens > 0
),
ranked AS (
    SELECT
        *,
        rank() OVER (PARTITION BY round ORDER BY sureness) AS place,
        count(*) OVER (PARTITION BY round, sureness) AS ties
    FROM scored
)
SELECT
    round,
    avg(sureness) FILTER (WHERE solved) AS of_right,
    avg(sureness) FILTER (WHERE NOT solved) AS of_wrong,
    (sum(place + (ties - 1) / 2) FILTER (WHERE solved) - count_if(solved) * (count_if(solved) + 1) / 2)
        / nullif(count_if(solved) * count_if(NOT solved), 0) AS auc
FROM ranked
GROUP BY round
ORDER BY round
