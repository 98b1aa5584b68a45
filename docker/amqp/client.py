"""Submits one prompt over RabbitMQ, follows its progress and prints the result: python client.py
prompt.json [amqp URL]"""

import json, sys, uuid
import pika

QUEUE, EXCHANGE = "q.gpu.20g", "runnode.comfyui.topic"
task = {"id": str(uuid.uuid4()), "prompt": json.load(open(sys.argv[1]))}
channel = pika.BlockingConnection(
    pika.URLParameters(sys.argv[2] if len(sys.argv) > 2 else "amqp://guest:guest@localhost/")
).channel()

channel.exchange_declare(EXCHANGE, "topic", durable=True)
channel.queue_declare(QUEUE, durable=True, arguments={"x-max-priority": 10})
mine = channel.queue_declare("", exclusive=True).method.queue
channel.queue_bind(
    mine, EXCHANGE, "event.#"
)  # before submitting: an event that nobody listens to is gone
channel.confirm_delivery()  # basic_publish now fails when the broker did not take the task
channel.basic_publish(
    "", QUEUE, json.dumps(task), pika.BasicProperties(delivery_mode=2, priority=5)
)

for _, _, body in channel.consume(mine, auto_ack=True, inactivity_timeout=None):
    event = json.loads(body)
    if event["task_id"] != task["id"]:
        continue
    print(
        event["event_type"],
        {k: v for k, v in event["data"].items() if k != "images"}
        if isinstance(event["data"], dict)
        else "",
    )
    if event["event_type"] in ("execution_success", "execution_error", "execution_interrupted"):
        sys.exit(event["event_type"] != "execution_success")
