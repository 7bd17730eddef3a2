with counted as (
    select
        coalesce(ad_id, 'no ad') as ad_id,
        question,
        answer,
        sum(leads) as leads
    from {{ source('leadstream', 'answer_counts') }}
    group by coalesce(ad_id, 'no ad'), question, answer
)

select
    *,
    leads / sum(leads) over (partition by ad_id, question) as share
from counted
