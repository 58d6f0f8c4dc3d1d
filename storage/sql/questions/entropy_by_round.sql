-- Does the sampler keep its variety?
-- Entropy, nats a token, falls as the policy grows sure. Near 0 all attempts at a problem are the same, and search
-- finds nothing new: raise the temperature, or let more distinct solutions train.
WITH searched AS (
    FROM trajectories WHERE shard >= 0  -- what a training sampled for itself is no search
),
texts AS (
    SELECT round, count(DISTINCT text_digest) / count(*) AS variety
    FROM searched
    GROUP BY run_id, round, problem_id
),
varieties AS (
    SELECT round, avg(variety) AS distinct_texts FROM texts GROUP BY round
),
surprises AS (
    SELECT round, -sum(list_sum(logprobs)) / sum(num_tokens) AS in_search FROM searched GROUP BY round
)
SELECT round, surprises.in_search, varieties.distinct_texts, history.entropy AS on_benchmark
FROM surprises
JOIN varieties USING (round)
FULL JOIN history USING (round)
ORDER BY round
