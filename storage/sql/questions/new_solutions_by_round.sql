-- Is the pool of solutions saturating?
-- A solution is new when no earlier round wrote that text for that problem; where the share of new ones falls, a round
-- adds less and less to train on.
WITH solutions AS (
    SELECT round, problem_id, text_digest, min(round) OVER (PARTITION BY problem_id, text_digest) AS first_round
    FROM trajectories
    WHERE solved
),
by_round AS (
    SELECT
        round,
        count(*) AS solved,
        count(DISTINCT (problem_id, text_digest)) AS distinct_solutions,
        count(DISTINCT CASE WHEN first_round = round THEN (problem_id, text_digest) END) AS new_solutions
    FROM solutions
    GROUP BY round
)
SELECT
    round,
    solved,
    distinct_solutions,
    new_solutions,
    new_solutions / solved AS new_share,
    sum(new_solutions) OVER (ORDER BY round)::BIGINT AS pool
FROM by_round
ORDER BY round
