package payment;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * The payment service in Java, written from docs/PROTOCOL.md alone, with the settings of the one in Python.
 *
 * <p>The loop: poll some commands, handle them (keys side by side, one key in order), and commit when every answer is acknowledged. Only
 * the thread that polls takes part in rebalances, so nothing is taken from us in the middle of it.
 */
public final class Main {
    private static final int SIDE_BY_SIDE = 16;

    private final String prefix = setting("SAGA_PREFIX", "");
    private final Service service;
    private final KafkaConsumer<byte[], byte[]> consumer;
    private final KafkaProducer<byte[], byte[]> producer;
    private final ExecutorService workers = Executors.newFixedThreadPool(SIDE_BY_SIDE);
    private volatile boolean stopping;

    private Main(Service service) {
        this.service = service;
        String bootstrap = setting("SAGA_BOOTSTRAP", "127.0.0.1:9092");
        long session = Math.round(1000 * Double.parseDouble(setting("SAGA_SESSION_SECONDS", "10")));
        Map<String, Object> reading = new LinkedHashMap<>();
        reading.put("bootstrap.servers", bootstrap);
        reading.put("group.id", prefix + "payment");
        reading.put("auto.offset.reset", "earliest");
        reading.put("enable.auto.commit", false);
        reading.put("session.timeout.ms", (int) session);
        reading.put("heartbeat.interval.ms", (int) session / 4);
        reading.put("max.poll.records", 100);
        consumer = new KafkaConsumer<>(reading, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        Map<String, Object> writing = Map.of("bootstrap.servers", bootstrap, "acks", "all", "enable.idempotence", true);
        producer = new KafkaProducer<>(writing, new ByteArraySerializer(), new ByteArraySerializer());
    }

    public static void main(String[] arguments) throws Exception {
        System.setProperty("org.slf4j.simpleLogger.defaultLogLevel", "warn");
        Path data = Files.createDirectories(Path.of(setting("CHECKOUT_DATA", ".data")));
        System.setProperty("org.sqlite.tmpdir", data.toString()); // its native library is unpacked there, and removed at the end
        CountDownLatch ended = new CountDownLatch(1);
        try (Books books = new Books(data.resolve("payment.db"))) {
            Main main = new Main(new Service(books, new Gateway(setting("CHECKOUT_GATEWAY_HTTP", "127.0.0.1:8081"))));
            Runtime.getRuntime().addShutdownHook(new Thread(() -> main.stop(ended)));
            main.run();
        } finally {
            ended.countDown();
        }
    }

    /** SIGTERM: finish what was polled, commit, leave the group. */
    private void stop(CountDownLatch ended) {
        stopping = true;
        try {
            ended.await(12, TimeUnit.SECONDS);
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
        }
    }

    private void run() throws InterruptedException, ExecutionException {
        try {
            consumer.subscribe(List.of(prefix + "payment.commands"));
            while (!stopping) {
                Map<List<Object>, List<ConsumerRecord<byte[], byte[]>>> keys = new LinkedHashMap<>();
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    String key = record.key() == null ? "" : new String(record.key(), StandardCharsets.ISO_8859_1);
                    keys.computeIfAbsent(List.of(record.partition(), key), any -> new ArrayList<>()).add(record);
                }
                if (!keys.isEmpty()) {
                    handleAll(keys.values());
                    commit();
                }
            }
        } finally {
            workers.shutdown();
            consumer.close();
            producer.close();
        }
    }

    private void handleAll(Iterable<List<ConsumerRecord<byte[], byte[]>>> keys) throws InterruptedException, ExecutionException {
        List<Future<?>> working = new ArrayList<>();
        for (List<ConsumerRecord<byte[], byte[]>> key : keys) {
            working.add(workers.submit(() -> {
                for (ConsumerRecord<byte[], byte[]> record : key) {
                    handle(record);
                }
                return null;
            }));
        }
        for (Future<?> one : working) {
            one.get(); // what is thrown here ends the process; nothing was committed, so the next one starts at the same place
        }
    }

    private void commit() {
        try {
            consumer.commitSync();
        } catch (CommitFailedException | RebalanceInProgressException error) {
            System.err.println("not committed, so it comes again and is answered from the inbox: " + error.getMessage());
        }
    }

    private void handle(ConsumerRecord<byte[], byte[]> record) throws InterruptedException, ExecutionException {
        Command command = null;
        try {
            command = Command.of(record);
            command.check();
            publish(command, answer(command));
        } catch (Command.Unreadable error) {
            setAside(record, error);
            if (command != null && command.hasAddress()) {
                publish(command, Answer.unsettled(command, "failed", error.reason + ": " + error.getMessage()));
            }
        }
    }

    private Answer answer(Command command) throws Command.Unreadable, InterruptedException {
        try {
            return service.answer(command);
        } catch (Command.Unreadable | InterruptedException error) {
            throw error;
        } catch (Exception error) {
            System.err.println(command.id() + " failed: " + error);
            return Answer.unsettled(command, "failed", error.toString());
        }
    }

    /** On the partition number of the command, if there is such a one; else the key decides (Java's default is the protocol's). */
    private void publish(Command command, Answer answer) throws InterruptedException, ExecutionException {
        String topic = prefix + "payment.events";
        int partition = command.record.partition();
        Integer there = partition < producer.partitionsFor(topic).size() ? partition : null;
        var record = new ProducerRecord<>(topic, there, command.record.key(), answer.value().getBytes(StandardCharsets.UTF_8));
        answer.headers().forEach((name, text) -> record.headers().add(name, text.getBytes(StandardCharsets.UTF_8)));
        producer.send(record).get();
    }

    private void setAside(ConsumerRecord<byte[], byte[]> record, Command.Unreadable why) throws InterruptedException, ExecutionException {
        String origin = record.topic() + ":" + record.partition() + ":" + record.offset();
        System.err.println(origin + " is a dead letter: " + why.reason + ": " + why.getMessage());
        var dead = new ProducerRecord<>(prefix + "saga.deadletter", null, record.key(), record.value(), record.headers());
        if (dead.headers().lastHeader("ce_sagaorigin") == null) {
            dead.headers().add("ce_sagaorigin", origin.getBytes(StandardCharsets.UTF_8));
        }
        dead.headers().add("ce_sagareason", why.reason.getBytes(StandardCharsets.UTF_8));
        dead.headers().add("ce_sagadetail", String.valueOf(why.getMessage()).getBytes(StandardCharsets.UTF_8));
        producer.send(dead).get();
    }

    private static String setting(String name, String usual) {
        String given = System.getenv(name);
        return given == null || given.isEmpty() ? usual : given;
    }
}
