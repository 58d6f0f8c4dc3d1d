-- How much more does the policy solve in eight tries than in one?
-- The room is what search can still teach it: where it shrinks while the accuracy stands still, the wheel has used up
-- what this policy can find, and harder searching or other problems are due.
SELECT round, accuracy, pass_at_8, pass_at_8 - accuracy AS room
FROM history
ORDER BY line, round
