select
    rule,
    step,
    status,
    split_part(reason, ':', 1) as reason,
    count(*) as commands
from {{ source('leadstream', 'followup_outcomes') }}
-- These records say that a person opted out or in again.
where rule <> 'opt-out'
group by rule, step, status, split_part(reason, ':', 1)
