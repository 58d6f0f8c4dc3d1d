-- What might each round's search have spent, and what did it spend, where budgets adapt?
-- Attempts of best_of_n, tokens of trees. A round that spends less than it might lets the next one spend more on hard problems.
SELECT
    round,
    strategy,
    sum(searches.budget)::BIGINT AS planned,
    sum(CASE WHEN starts_with(strategy, 'best_of_n') THEN num_attempts ELSE num_tokens END)::BIGINT AS spent,
    min(searches.budget) AS least,
    max(searches.budget) AS most,
    count(*) FILTER (WHERE num_solved > 0) / count(*) AS solved_share,
    count(*) FILTER (WHERE num_solved > 0 AND NOT is_new) / nullif(count(*) FILTER (WHERE NOT is_new), 0) AS solved_share_of_known
FROM searches
JOIN draws USING (run_id, round, problem_id)
WHERE searches.budget > 0
GROUP BY round, strategy
ORDER BY round, strategy
