-- How good is each round's candidate, and how sure is that?
-- On other problems of this kind the accuracy may well lie anywhere from low to high; whether one round beats another
-- is asked more sharply by `decisions`, problem by problem.
SELECT round, promoted, accuracy, low, high, num_problems, chance
FROM history
ORDER BY line, round
